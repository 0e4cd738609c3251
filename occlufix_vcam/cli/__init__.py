"""The `occlufix-vcam` command, one file per group of commands. The only room that prints or exits."""
