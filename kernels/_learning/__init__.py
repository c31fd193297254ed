"""Learning from outcomes: exploration, nearest neighbours, recent samples."""
