"""One file a command of `headrace`: the places where the parts meet."""
