"""Side by side with the peers: same process, same data, same work, interleaved, medians."""
