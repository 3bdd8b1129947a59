"""Windows: what a medium of it holds, and how it is installed without anybody at the keyboard."""
