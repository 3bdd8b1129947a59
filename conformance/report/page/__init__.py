"""The parts of the HTML report: cells, evidence, and the summary; and the page's templates."""
