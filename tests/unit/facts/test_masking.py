"""Secrets in the files of others, as a diff would show them."""

from __future__ import annotations

import pytest

from gb10.facts.reading.masking import masked_text
from gb10.group_data.settings import SECRET_FLAGS


@pytest.mark.parametrize(
    "secret",
    [
        '{"proxies": {"https-proxy": "http://anna:canary@proxy:3128"}}',
        '    "https-proxy": "http://anna:it\'s@canary@proxy:3128",',
        "https_proxy=http://anna:canary@proxy:3128",
        'HTTPS_PROXY="anna:canary@proxy:3128"',
        "HF_TOKEN=canary",
        "export MY_API_KEY = canary",
        '"secret": "canary"',
        "{ssid: home, password: canary, dhcp4: true}",
        '        "home":\n          password: "canary"',
        "wifis:\n  w0:\n    home:\n      auth:\n        key-management: psk\n        password: canary",
        "password: |\n  canary\n\n  canary",
        "- passphrase:\n    canary",
        "tokens:\n- canary",
        '"auths": {"registry.lan": {"auth": "canary"}}',
        "ExecStart=/usr/bin/thing --registry-password canary",
        "Authorization: Bearer canarycanary",
        "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY-----",
        "argument hf_canarycanarycanarycanary",
        "key: canaryBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB=",
        *(f"{flag}: canary" for flag in SECRET_FLAGS),
        *(f"{variable}=canary" for variable in SECRET_FLAGS.values()),
    ],
)
def test_a_secret_of_others_is_masked(secret: str) -> None:
    text = masked_text(f"first: line\n{secret}\nlast: line\n")
    assert "canary" not in text
    assert text.startswith("first: line\n")
    assert text.endswith("last: line\n")


@pytest.mark.parametrize(
    "text",
    [
        '{\n    "default-runtime": "nvidia",\n    "registry-mirrors": ["https://mirror.lan"]\n}\n',
        "PATH=/usr/bin:/bin\nHF_HOME=/data/huggingface\n",
        "network:\n  version: 2\n  ethernets:\n    enp1s0f0np0:\n      addresses: [192.168.100.11/24]\n",
        "PasswordAuthentication no\nAuthorizedKeysFile .ssh/authorized_keys\n",
        "10.0.0.1 spark-1 # the head\n",
        "token-file: /etc/rancher/k3s/token\n",
        "image: nvcr.io/nvidia/vllm:26.05-py3@sha256:0123456789abcdef\n",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert masked_text(text) == text
