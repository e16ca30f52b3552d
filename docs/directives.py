"""Two directives of this documentation: ``printed`` and ``markdown-table``."""

import contextlib
import io
import textwrap
from pathlib import Path

from docutils import nodes
from matplotlib.sphinxext import plot_directive
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

_LOGGER = getLogger(__name__)


class Printed(SphinxDirective):
    """Code, run after the ``.. plot:: :context:`` before it, and what it prints."""

    has_content = True

    def run(self):
        """Return the code and its output."""
        code = "\n".join(self.content)
        printed = io.StringIO()
        try:
            with (
                contextlib.redirect_stdout(printed),
                contextlib.chdir(self.config.plot_working_directory),
            ):
                exec(code, plot_directive.plot_context)
        except Exception as error:
            where = self.get_location()
            _LOGGER.warning("%s: %s", type(error).__name__, error, location=where)
        output = textwrap.dedent(printed.getvalue()).rstrip()
        return [
            nodes.literal_block(code, code, language="python"),
            nodes.literal_block(output, output, language="none"),
        ]


class MarkdownTable(SphinxDirective):
    """The first table of a Markdown file; a note where there is no such file."""

    required_arguments = 1

    def run(self):
        """Return the table as a list-table would."""
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        if not path.exists():
            return self.parse_text_to_nodes(
                f".. note:: ``{path.name}`` has not been generated; run the command above."
            )
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
        rows = [row for row in rows if set("".join(row)) - set("-: ")]
        text = ".. list-table::\n   :header-rows: 1\n\n"
        for row in rows:
            for i, cell in enumerate(row):
                text += f"   {'* ' if i == 0 else '  '}- {cell.strip()}\n"
        return self.parse_text_to_nodes(text)


def setup(app):
    """Register the directives."""
    app.add_directive("printed", Printed)
    app.add_directive("markdown-table", MarkdownTable)
    return {"parallel_read_safe": True}
