"""Learning from outcomes: exploration, nearest neighbours and recent samples."""
