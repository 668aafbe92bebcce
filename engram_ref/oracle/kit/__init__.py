"""The kit: inputs and answers for a port in any language, in a folder that needs no Python.

    write_kit(Path("kit"), "demo")      # what `engram-ref kit kit --dialect demo` does
    read_kit(Path("kit")).vectors       # its cases, as in memory

`cases` collects the cases of a dialect, `plain` writes them in the form that C reads, `constants` and `readme` add the
other files, `write` and `read` handle the folder.
"""
