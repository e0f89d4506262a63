#!/bin/sh
# Last step of the image build. $1 is the root directory of the new system.
set -eu
root=$1

chmod 0755 "$root/usr/local/sbin/gb10-lab-init" "$root/usr/local/sbin/udevadm"
chmod 0755 "$root"/usr/local/bin/* "$root/usr/local/lib/gb10-lab/sysfs"
chmod 0440 "$root/etc/sudoers.d/nvidia" "$root/etc/sudoers.d/gb10-lab"
chroot "$root" useradd --create-home --shell /bin/bash --groups sudo nvidia
install -d -m 0700 -o 1000 -g 1000 "$root/home/nvidia/.ssh"
install -d "$root/data" "$root/opt/gb10-lab/bin" "$root/etc/gb10-lab"

# The message of the day starts four programs at each login, and nobody reads it here.
sed -i '/pam_motd/d' "$root/etc/pam.d/sshd" "$root/etc/pam.d/login"

# For people who do not speak English.
echo 'fr_FR.UTF-8 UTF-8' > "$root/etc/locale.gen"
chroot "$root" locale-gen

# An installation gets its identity at its first boot, not from the image.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/hosts" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: > "$root/etc/machine-id"

chroot "$root" systemctl enable --quiet gb10-lab-hostkeys.service connectx7-sysfs.service ssh.service docker.service
# Installed but disabled: a Spark may use NetworkManager or networkd, and networkd costs nothing at boot.
chroot "$root" systemctl disable --quiet NetworkManager.service NetworkManager-dispatcher.service NetworkManager-wait-online.service
chroot "$root" systemctl mask --quiet getty.target e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer \
    systemd-networkd-wait-online.service dev-hugepages.mount sys-fs-fuse-connections.mount systemd-udev-load-credentials.service
# At each boot and each daemon-reload, these generators look for disks, consoles and scripts that a container never has.
install -d "$root/etc/systemd/system-generators"
for name in debug getty gpt-auto hibernate-resume rc-local run ssh system-update sysv tpm2; do
    ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$name-generator"
done
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
