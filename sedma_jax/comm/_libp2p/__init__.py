"""The transport: libp2p with its faults corrected, muxer, streams, keys."""
