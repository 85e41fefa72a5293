"""What a secret looks like, in a file's name and in its content."""

from __future__ import annotations

import re

FILE_NAMES = re.compile(r"(^|/)(\.env(\..*)?|\.netrc|\.pypirc|id_(rsa|ecdsa|ed25519)|\.git|\.aws|\.docker)$")
CONTENT = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n([A-Za-z0-9+/=]{20}|Proc-Type)"
    rb"|\btk_[A-Za-z0-9_-]{43}\b"  # a key of our API
    rb"|\bhf_[A-Za-z0-9]{34}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bAKIA[0-9A-Z]{16}\b|\bxox[abp]-[0-9A-Za-z-]{20,}"
    rb"|\bwhsec_[A-Za-z0-9+/]{32,}"
)
SETTING_NAMES = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|AUTH|ACCESS_KEY")
