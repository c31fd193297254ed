"""Jobs that peers hand in: client, service and journal."""
