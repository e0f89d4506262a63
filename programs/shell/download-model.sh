# Download a repository of the Hugging Face Hub into the cache, resuming an earlier download.
# Arguments: the repository, its kind, HF_HOME.
set -u
PATH=$PATH:$HOME/.local/bin:/usr/local/bin
export PATH HF_HOME=$3 HF_HUB_OFFLINE=0 HF_HUB_DISABLE_PROGRESS_BARS=1
client=$(command -v hf || command -v huggingface-cli) ||
    refuse HF_CLIENT_MISSING "neither hf nor huggingface-cli is on the node"
"$client" download --repo-type "$2" "$1" >/dev/null && exit 0
refuse MODEL_DOWNLOAD_FAILED "$client could not download $1 (see its message above)"
