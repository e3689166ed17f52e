"""Videos in, frames out: everything that touches a stranger's file, in a process that can do nothing else."""
