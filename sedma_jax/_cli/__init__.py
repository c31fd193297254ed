"""The `sedma` command, one file per subcommand."""
