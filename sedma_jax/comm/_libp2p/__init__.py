"""The transport: libp2p with its faults corrected, streams, muxer, keys."""
