"""Jobs that peers submit: client, service and journal."""
