"""The `occlufix-vcam` command, a file for each group of commands. The only room that prints or exits."""
