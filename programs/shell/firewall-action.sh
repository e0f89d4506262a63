# Switch ufw on, for gb10's trial: see trial.sh.
case $1 in
apply) ufw --force enable ;;
undo) ufw --force disable ;;
keep) ;;
esac
