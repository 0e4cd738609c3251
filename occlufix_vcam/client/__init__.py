"""The client of the control server, for the command line and the tray icon. Imports nothing heavy."""
