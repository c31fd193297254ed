"""What commands show and take: tables, progress, streams, numbers, names of devices."""
