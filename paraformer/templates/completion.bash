# Completion of funasr in bash: eval "$(funasr completion bash)"
_funasr() {
  local line=${COMP_LINE:0:COMP_POINT} word before key value prefix words='' files='' each
  word=${line##*[[:space:]]}
  before=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  if [[ $word == *=* ]]; then
    key=${word%%=*} value=${word#*=}
    prefix=$key=
    # Readline replaces what stands behind a word break, which `=` mostly is.
    [[ $COMP_WORDBREAKS == *=* ]] && prefix=''
    key=${key#+} key=${key#+} key=${key#--}
    key=${key//-/_}
  else
    key='' value=$word prefix=''
    case $before in
      completion) words='@shells@' ;;
@short@
      *) key=none ;;
    esac
  fi
  case $key in
@values@
    none)
      prefix=${word%%[!+-]*}
      words='@keys@'
      case ${COMP_WORDS[1]} in
@own@
      esac
      [[ -z $prefix ]] && words+=' @commands@' && files=-f
      value=${word#"$prefix"}
      compopt -o nospace 2> /dev/null
      ;;
  esac
  while IFS= read -r each; do
    COMPREPLY+=("$each")
  done < <(
    [[ -n $words ]] && compgen -P "$prefix" -W "$words" -- "$value"
    [[ -n $files ]] && compgen -P "$prefix" "$files" -- "$value"
  )
  [[ -z $files ]] || compopt -o filenames 2> /dev/null
}
complete -F _funasr funasr
