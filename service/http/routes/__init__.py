"""The routes, one small file for each noun of the API."""
