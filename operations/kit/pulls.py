"""Images that a node pulls: by the pinned digest, which the first pull records."""

from __future__ import annotations

import re
import shlex

from pyinfra.api import Host, StringCommand

from gb10.facts.images import DockerImages
from gb10.operations.kit.lock_file import image_name
from gb10.operations.kit.peers import peer_fact, peer_run
from gb10.operations.kit.pins import Download, Pin, keep, pin_of
from gb10.programs.answer import RefusedError
from gb10.programs.images.contents import familiar

DIGEST = re.compile(r"^Digest: sha256:([0-9a-f]{64})$", re.MULTILINE)  # as `docker pull` prints it


def have_image(node: Host, image: str, setting: str, seconds: int) -> tuple[bool, str]:
    """Pull an image that a node lacks; return whether that succeeded, and what Docker printed.

    An image named by its digest is left to Docker. Raise RefusedError if the pin is missing or differs.
    """
    images = None if "@" in image else peer_fact(node, DockerImages)
    if images is None or any(familiar(image) in one.tags for one in images):
        return True, ""
    tag = familiar(image)
    pin = pin_of(Download(image_name(tag), tag, setting=f"{setting}, as NAME@sha256:DIGEST"))
    done, said = peer_run(node, _pull(tag, pin, seconds))
    if not done or pin.sha256:
        return done, said
    found = DIGEST.findall(said)
    try:
        keep(pin, found[-1] if found else "")
    except RefusedError:
        peer_run(node, StringCommand(f"docker rmi {shlex.quote(tag)}"))
        raise
    return True, said


def _pull(tag: str, pin: Pin, seconds: int) -> StringCommand:
    """Return the command that pulls an image: what its tag names, or what its pin names, under the tag."""
    if not pin.sha256:
        return StringCommand(f"timeout {seconds} docker pull {shlex.quote(tag)} 2>&1")
    name, pinned = shlex.quote(tag), shlex.quote(f"{tag.rpartition(':')[0]}@sha256:{pin.sha256}")
    return StringCommand(f"{{ timeout {seconds} docker pull {pinned} && docker tag {pinned} {name}; }} 2>&1")
