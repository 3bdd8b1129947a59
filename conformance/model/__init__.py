"""The vocabulary as data: contract, exposure, mode, verdict, record, and the matrix of cells."""
