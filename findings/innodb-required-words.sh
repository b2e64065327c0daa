#!/bin/sh
# InnoDB: a full-text search that requires a common or a short word finds nothing at all.
#
# Versions: MariaDB 10.11.19 of Debian 12.
# Situation: messages have a FULLTEXT index. The server puts + before each word that a user types,
#   because all of them must be in a message: "how to reset" becomes '+how +to +reset'. The index has
#   neither stopwords, such as "how" and "to", nor words of fewer than 3 letters.
# Expected: words that no index has are ignored in searches too. The manual of MariaDB calls
#   stopwords words "that can be ignored". Aria and MyISAM ignore them, and so does InnoDB itself
#   without + and between double quotes.
# Seen: no row, even if a message is word for word what was asked. There is no warning.
# Way out: put no + before the words in information_schema.INNODB_FT_DEFAULT_STOPWORD and before
#   those shorter than @@innodb_ft_min_token_size.
set -eu

sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"

want='InnoDB, +how +to +reset: nothing
Aria, +how +to +reset: how to reset, please reset it
InnoDB, +release +v2: nothing
Aria, +release +v2: release v2
InnoDB, how to reset: how to reset, please reset it
InnoDB, "how to reset": how to reset, please reset it
InnoDB, how to +reset: how to reset, please reset it
InnoDB, +release v2: release v2
stopwords: how to
shortest word in the index: 3'

PATH=$PATH:/usr/sbin
for program in mariadbd mariadb mariadb-install-db; do
	command -v $program >/dev/null || { echo "needs $program: Debian 12 with MariaDB" >&2; exit 2; }
done
mariadbd --version | grep -q 10.11.19 || { echo "needs MariaDB 10.11.19" >&2; exit 2; }
tmp=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; wait; rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
cd "$tmp"

ask() { mariadb --no-defaults --socket="$tmp/sock" -u root -N -e "$1"; }
mariadb-install-db --no-defaults --datadir="$tmp/data" --auth-root-authentication-method=normal \
	--skip-test-db >log 2>&1 || { cat log >&2; exit 2; }
mariadbd --no-defaults --user="$(id -un)" --datadir="$tmp/data" --socket="$tmp/sock" --skip-networking \
	>log 2>&1 &
pid=$!
for _ in $(seq 600); do
	ask 'SELECT 1' >/dev/null 2>&1 && break
	sleep 0.1
done
ask 'SELECT 1' >/dev/null 2>&1 || { cat log >&2; exit 2; }

ask 'CREATE DATABASE d'
for engine in InnoDB Aria; do
	ask "CREATE TABLE d.$engine (id INT PRIMARY KEY, text VARCHAR(100), FULLTEXT (text)) ENGINE=$engine;
		INSERT INTO d.$engine VALUES (1, 'how to reset'), (2, 'please reset it'), (3, 'release v2')"
done
find() { # ENGINE WORDS: prints the messages that have the words
	printf '%s, %s: %s\n' "$1" "$2" "$(ask "SELECT IFNULL(GROUP_CONCAT(text ORDER BY id SEPARATOR ', '), 'nothing')
		FROM d.$1 WHERE MATCH (text) AGAINST ('$2' IN BOOLEAN MODE)")"
}
got=$(
	for words in '+how +to +reset' '+release +v2'; do
		find InnoDB "$words"
		find Aria "$words"
	done
	for words in 'how to reset' '"how to reset"' 'how to +reset' '+release v2'; do
		find InnoDB "$words"
	done
	printf 'stopwords: %s\n' "$(ask "SELECT GROUP_CONCAT(value ORDER BY value SEPARATOR ' ')
		FROM information_schema.INNODB_FT_DEFAULT_STOPWORD WHERE value IN ('how', 'to', 'reset', 'release')")"
	printf 'shortest word in the index: %s\n' "$(ask 'SELECT @@innodb_ft_min_token_size')"
)
printf '\nThis run: %s\n%s\n' "$(mariadbd --version)" "$got"
[ "$got" = "$want" ] || { printf '\nCHANGED, it was:\n%s\n' "$want"; exit 1; }
printf '\nStill as described.\n'
