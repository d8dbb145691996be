#!/usr/bin/env bash
# sclite (SCTK) and an STM reference whose text begins with a word in angle brackets.
#
# One expects: an STM segment is `file channel speaker begin end text`, so `<unk> one two` is three
# reference words, as it is in a TRN reference.
# What happens: a first word written in angle brackets, such as `<unk>`, `<noise>` or `<sil>`, is
# taken for the optional label field before the text. It leaves the reference without a warning, so
# the number of words, by which the error rate is divided, shrinks, and a system that gives exactly
# the reference is charged an insertion. The same word anywhere else in the text counts. With any
# label before it, even an empty `<>`, the word is back.
# Why it matters: transcripts begin with such marks all the time. One set of references has another
# error rate as STM than as TRN, and a perfect result does not score 0 %.
set -euo pipefail

program=$(PATH=$PATH:/usr/lib/sctk/bin command -v sclite) \
  || { echo "sclite is not here (apt install sctk)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"

cat > bare.stm <<'STM'
call 1 anna 0.0 2.0 <unk> one two
call 1 anna 2.0 4.0 three <unk> four
STM
sed 's/\(anna [^ ]* [^ ]*\)/\1 <>/' bare.stm > labelled.stm
cat > result.ctm <<'CTM'
call 1 0.1 0.2 <unk>
call 1 0.6 0.2 one
call 1 1.2 0.2 two
call 1 2.1 0.2 three
call 1 2.6 0.2 <unk>
call 1 3.2 0.2 four
CTM
printf '<unk> one two (anna-1)\nthree <unk> four (anna-2)\n' > same.trn

score() { # prints, for each segment, how many words were correct, substituted, deleted, inserted
  "$program" "$@" -o pralign stdout | sed -n 's/^Scores: (#C #S #D #I) //p' | paste -sd, -
}
bare=$(score -r bare.stm stm -h result.ctm ctm)
labelled=$(score -r labelled.stm stm -h result.ctm ctm)
trn=$(score -r same.trn trn -h same.trn trn -i rm)
{ "$program" 2>&1 || true; } | grep -i -m 1 version || true
echo "correct, substituted, deleted, inserted words of each segment; 3 0 0 0,3 0 0 0 is right"
echo "STM: $bare"
echo "STM with an empty label: $labelled"
echo "TRN: $trn"
if [ "$bare" != "2 0 0 1,3 0 0 0" ] || [ "$labelled" != "3 0 0 0,3 0 0 0" ] || [ "$trn" != "$labelled" ]; then
  echo "the behaviour has changed" >&2
  exit 1
fi
