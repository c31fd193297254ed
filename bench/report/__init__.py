"""The HTML page of `sedma bench report`."""
