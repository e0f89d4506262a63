"""The format of a backup: one gzipped tar whose last member, MANIFEST.json, describes all the others.

    root/etc/hostname    a file of the node, under its own path
    gb10/packages.txt    a description of the node
    MANIFEST.json        every member with type, mode, owner, time, size and sha256; the node; what was left out

The contract: an archive that `unpack` or `check` accepts is, member by member, as it was written. Nothing is ever
written outside the folder, whatever an archive says. Unpacked files are 0600 in 0700 folders: their own attributes are
in the manifest.
"""
