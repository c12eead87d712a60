"""The console script ``stompauth``, for those who develop and run an application."""
