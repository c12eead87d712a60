"""Several processes of one machine that listen together, and act as one."""
