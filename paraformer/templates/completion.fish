# Completion of funasr in fish: funasr completion fish | source
function __funasr_words
    set -l word (commandline --current-token)
    set -l before (commandline --tokenize --cut-at-cursor)[-1]
    set -l key none
    set -l prefix ''
    set -l words
    if string match --quiet -- '*=*' $word
        set prefix (string replace --regex -- '=.*$' '=' $word)
        set key (string replace --regex -- '^(\+\+|\+|--)?(.*)=$' '$2' $prefix | string replace --all -- - _)
    else
        switch $before
            case completion
                set words @shells@
                set key ''
@short@
        end
    end
    switch $key
@values@
        case none
            set prefix (string match --regex -- '^(?:\+\+|\+|--)?' $word)
            set words @keys@
            switch (commandline --tokenize --cut-at-cursor)[2]
@own@
            end
            test -z "$prefix"; and set --append words @commands@
    end
    for each in $words
        echo -- $prefix$each
    end
end
complete --command funasr --arguments '(__funasr_words)'
