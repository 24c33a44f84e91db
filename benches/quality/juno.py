"""psql on a running server, for the commands of this folder."""

import subprocess


class Psql:
    def __init__(self, url):
        self.url = url

    def run(self, sql, stdin=None):
        """What psql prints of a statement: a line a row, columns by tabs."""
        command = ["psql", self.url, "-v", "ON_ERROR_STOP=1", "-AtqX", "-F", "\t", "-c", sql]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{sql[:200]}\n{done.stderr}")
        return done.stdout

    def rows(self, sql):
        """The rows of a query, each a list of texts."""
        return [line.split("\t") for line in self.run(sql).splitlines()]
