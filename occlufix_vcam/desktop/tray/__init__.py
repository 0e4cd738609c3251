"""The tray icon: what goes on at a glance, and the switch under a click. It uses the control API and nothing else."""
