import importlib.util

# The layer is an extra; without it there is nothing to test.
collect_ignore_glob = [] if importlib.util.find_spec("libp2p") else ["test_*.py"]
