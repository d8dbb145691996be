# shellcheck shell=bash
# Command line options become shell variables. To be sourced after the defaults:
#
#   nj=4
#   cmd=utils/run.py
#   . utils/parse_options.sh
#
# Then `--nj 8`, `--nj=8` set $nj. A dash in a name stands for an underscore. An option is known if its
# variable is set; one whose default is true or false takes these two only. Options end at the first other
# argument or at `--`; what is left stays in "$@". --help prints $help_message, or else the comment at the
# top of the script. A value is never evaluated: `$(…)` and quotes in it are text.

_option_fail() {
  printf '%s: %s\n' "$0" "$1" >&2
  exit 1
}

_option_help() {
  if [ -n "${help_message:-}" ]; then
    printf '%s\n' "$help_message"
  else
    # A recipe may have gone to its own folder, from where a relative $0 leads nowhere.
    if [ -f "$0" ]; then _option_file=$0; else _option_file=${0##*/}; fi
    sed -n -e '1{/^#!/d;}' -e '/^#/!q' -e '/^# shellcheck /d' -e 's/^# \{0,1\}//p' "$_option_file"
  fi
  exit 0
}

# Sets the variable of option $1, written without its dashes, to $2.
_option_set() {
  local _option_name=${1//-/_}
  # Names in capitals are those of the environment: --PATH is no option.
  if [[ ! $_option_name =~ ^[a-z][A-Za-z0-9_]*$ ]] || [ -z "${!_option_name+set}" ]; then
    _option_fail "unknown option --$1; see --help"
  fi
  if [[ ${!_option_name} == true || ${!_option_name} == false ]] && [[ $2 != true && $2 != false ]]; then
    _option_fail "option --$1 is '$2'; give true or false"
  fi
  printf -v "$_option_name" '%s' "$2"
}

while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h) _option_help ;;
    --)
      shift
      break
      ;;
    --*=*)
      _option_pair=${1#--}
      _option_set "${_option_pair%%=*}" "${_option_pair#*=}"
      shift
      ;;
    --*)
      [ $# -gt 1 ] || _option_fail "option $1 has no value; see --help"
      _option_set "${1#--}" "$2"
      shift 2
      ;;
    *) break ;;
  esac
done

if [ -n "${cmd+set}" ] && [ -z "$cmd" ]; then
  _option_fail "option --cmd is empty; give utils/run.py or the like"
fi
unset -f _option_fail _option_help _option_set
unset _option_pair
