"""Formulas as MathML, made by docutils while the pages are built: no script, no font, nothing to load."""

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)


def setup(app):
    """Register the renderer `mathml`."""
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))


def inline(writer, node):
    """A formula in a line of text."""
    writer.body.append(_made(node, as_block=False))
    raise nodes.SkipNode


def block(writer, node):
    """A formula of its own."""
    writer.body.append(f'<div class="math">{_made(node, as_block=True)}</div>')
    raise nodes.SkipNode


def _made(node, as_block):
    try:
        return latex2mathml.tex2mathml(node.astext(), as_block=as_block)
    except Exception as error:  # a formula that docutils cannot read is a warning of the build, which then fails
        log.warning("no MathML for %r: %s", node.astext(), error, location=node)
        return f"<code>{node.astext()}</code>"
