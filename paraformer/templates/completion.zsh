#compdef funasr
# Completion of funasr in zsh: eval "$(funasr completion zsh)", after compinit.
_funasr() {
  local key before=$words[CURRENT-1]
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
      compadd -S '' -- @keys@
      ;;
  esac
}
compdef _funasr funasr
