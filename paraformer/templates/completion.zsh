#compdef funasr
# Completion of funasr in zsh: eval "$(funasr completion zsh)", after compinit.
_funasr() {
  local key keys before=$words[CURRENT-1] command=$words[2]
  if [[ $PREFIX == *=* ]]; then
    key=${PREFIX%%=*}
    key=${${${key#+}#+}#--}
    key=${key//-/_}
    compset -P '*='
  else
    case $before in
      completion) compadd -- @shells@; return ;;
@short@
      *) key=none ;;
    esac
  fi
  case $key in
@values@
    none)
      [[ -z $PREFIX || $PREFIX != [+-]* ]] && { compadd -- @commands@; _files; }
      compset -P '(++|+|--)'
      keys='@keys@'
      case $command in
@own@
      esac
      compadd -S '' -- ${=keys}
      ;;
  esac
}
compdef _funasr funasr
