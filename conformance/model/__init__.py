"""The vocabulary as data: contract, mode, verdict, record, and the matrix of cells."""
