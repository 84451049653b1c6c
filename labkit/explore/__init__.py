"""A panel to explore with: a prompt, layers, heads, tokens, both kinds of a block on one screen, edits as switches.

    lab.explore(" fox red. whale blue. fox")

In this folder:

    asks      calls as records, which make the data of a view and write its code
    toggles   edits that one switches on and off
    choices   what is chosen: prompt, layer, head, token, views, edits
    runs      runs of the prompt, made when a view needs them
    outputs   what heads hand on, of attention whose maps cannot be had
    views     which reading each view is of
    explorer  the explorer without a screen
    kept      the file that a choice is kept in
    stopping  the kernel's interrupt button, heard while a click is answered
    forms     what a page draws of a view
    panel     the widget; `panel.js` and `panel.css` draw it
"""

from labkit.explore.choices import Choice
from labkit.explore.explorer import Explorer, Shown
from labkit.explore.outputs import handed
from labkit.explore.panel import Panel, opened

__all__ = ["Choice", "Explorer", "Panel", "Shown", "handed", "opened"]


def __dir__():
    return sorted(__all__)
