"""Ways to run a node (thread, child process, daemon), and what is done with one."""
