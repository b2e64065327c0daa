package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"teamtalk/core/config/texts"
)

// Setting describes one setting.
type Setting struct {
	Key     string // as in the file, with its section: "msg.listen"
	Doc     string // the help text
	Default string // as in the environment; "" is empty
	// Type is the kind of the value: "text", "number", "true|false", "duration", "size",
	// "list", "secret", or the allowed words.
	Type string
	// Common marks a setting that a first-time user may need. Help texts list no other.
	Common bool

	index []int // path to the field in Config
	tag   reflect.StructTag
}

// Env returns the setting's name in the environment: "TEAMTALK_MSG_LISTEN".
func (s Setting) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
}

// Flag returns the setting's flag without the leading dashes: "msg.max-connections".
func (s Setting) Flag() string { return strings.ReplaceAll(s.Key, "_", "-") }

// EnvPrefix begins the name of every variable that Load reads.
const EnvPrefix = "TEAMTALK_"

// EnvFile is the variable that names the configuration file when the command line does
// not.
const EnvFile = EnvPrefix + "CONFIG"

// docs has the text of each setting and section, by key. A test checks that it is complete.
var docs = texts.All()

// section describes a table of the file.
type section struct{ name, doc string }

// Settings returns every setting in the order of the documentation, which begins with
// those without a section.
func Settings() []Setting {
	settings, _ := definition()
	return slices.Clone(settings)
}

// definition returns all settings and sections. The caller does not change them: they are
// read from the tags once, because every command has flags for them.
var definition = sync.OnceValues(readDefinition)

// readDefinition reads the settings and sections from the tags of Config.
func readDefinition() ([]Setting, []section) {
	var settings []Setting
	var sections []section
	var walk func(t reflect.Type, prefix string, index []int)
	walk = func(t reflect.Type, prefix string, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			key, at := prefix+f.Tag.Get("toml"), append(slices.Clone(index), i)
			switch {
			case !f.IsExported():
			case f.Type.Kind() == reflect.Struct:
				sections = append(sections, section{key, docs[key]})
				walk(f.Type, key+".", at)
			default:
				settings = append(settings, Setting{
					Key: key, Doc: docs[key], Default: spelledOut(f.Tag.Get("default")),
					Type: typeName(f), Common: slices.Contains(common, key), index: at, tag: f.Tag,
				})
			}
		}
	}
	walk(reflect.TypeFor[Config](), "", nil)
	return settings, sections
}

// common are the settings that help texts list.
var common = []string{"data_dir", "store", "roles", "log.level", "admin.listen",
	"login.http_listen", "msg.listen", "msg.advertise_ip1", "mysql.master", "redis.addrs"}

// wordLists are lists of words that are too long for a line with a tag.
var wordLists = map[string]string{
	"device_policies": "device_class|one_client|keep_first|unlimited",
	"client_headers":  "x-forwarded-for|x-real-ip|forwarded",
	"all_roles":       strings.Join(roles, ","),
}

// allowedWords returns the words that a setting with this tag allows, separated by |; ""
// when the setting takes any word.
func allowedWords(tag reflect.StructTag) string {
	return spelledOut(tag.Get("oneof"))
}

// spelledOut returns the list of words that a key of wordLists stands for, and other words as they
// are.
func spelledOut(words string) string {
	if list, ok := wordLists[words]; ok {
		return list
	}
	return words
}

// typeName returns the Type of the setting that field f holds.
func typeName(f reflect.StructField) string {
	if words := allowedWords(f.Tag); words != "" {
		return words
	}
	switch reflect.Zero(f.Type).Interface().(type) {
	case time.Duration:
		return "duration"
	case Size:
		return "size"
	case Secret, DSN, RedisURL:
		return "secret"
	case []string:
		return "list"
	case bool:
		return "true|false"
	case int, float64:
		return "number"
	}
	return "text"
}

// field returns the field of c that holds the setting's value.
func (s Setting) field(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(s.index)
}

// set parses text, in the spelling of the environment and of flags, and stores the value
// in c. On an error it leaves c unchanged.
func (s Setting) set(c *Config, text string) error {
	v, err := s.parse(text)
	if err == nil {
		err = s.check(v)
	}
	if err != nil {
		return err
	}
	s.field(c).Set(reflect.ValueOf(v))
	return nil
}

func (s Setting) parse(text string) (any, error) {
	t := reflect.TypeFor[Config]().FieldByIndex(s.index).Type
	switch reflect.Zero(t).Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf(`want a duration such as "15s" or "1h30m", not %q: %s`, text,
				DurationForm)
		}
		return d, nil
	case Size:
		return ParseSize(text)
	case []string:
		return splitList(text), nil
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("want true or false, not %q", text)
		}
		return b, nil
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("want a whole number, not %q", text)
		}
		return n, nil
	case float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) {
			return nil, fmt.Errorf("want a number, not %q", text)
		}
		return n, nil
	}
	return reflect.ValueOf(text).Convert(t).Interface(), nil // the string types
}

// emptyList is the spelling of an empty list, as in the file. In the environment an empty
// text counts as not set.
const emptyList = "[]"

// splitList parses a list separated by commas. It drops blanks around the entries, and
// empty entries.
func splitList(text string) []string {
	var list []string
	if strings.TrimSpace(text) == emptyList {
		return nil
	}
	for _, e := range strings.Split(text, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// setTOML stores a value of the file in c. On an error it leaves c unchanged.
func (s Setting) setTOML(c *Config, value any) error {
	want := s.field(c).Interface()
	switch v := value.(type) {
	case string:
		switch want.(type) {
		case int, float64, bool:
			return fmt.Errorf("want %s without quotes", s.example())
		case []string:
			return errors.New(`want a list such as ["a", "b"]`)
		}
		return s.set(c, v)
	case int64:
		switch want.(type) {
		case int, float64, Size:
			return s.set(c, strconv.FormatInt(v, 10))
		case time.Duration:
			if v == 0 { // needs no unit, as in the environment
				return s.set(c, "0")
			}
			return fmt.Errorf("want %s, not %d: %s", s.example(), v, DurationForm)
		}
	case float64:
		if _, ok := want.(float64); ok {
			return s.set(c, strconv.FormatFloat(v, 'g', -1, 64))
		}
	case bool:
		if _, ok := want.(bool); ok {
			return s.set(c, strconv.FormatBool(v))
		}
	case []any:
		if _, ok := want.([]string); ok {
			return s.setList(c, v)
		}
	}
	return errors.New("want " + s.example())
}

func (s Setting) setList(c *Config, values []any) error {
	var list []string
	for _, e := range values {
		text, ok := e.(string)
		if !ok {
			return errors.New(`want a list of texts such as ["a", "b"]`)
		}
		if text = strings.TrimSpace(text); text != "" {
			list = append(list, text)
		}
	}
	if err := s.check(list); err != nil {
		return err
	}
	s.field(c).Set(reflect.ValueOf(list))
	return nil
}

// example describes the values that the file takes for this setting.
func (s Setting) example() string {
	switch s.Type {
	case "duration":
		return `a duration in quotes, such as "15s"`
	case "size":
		return `a size in quotes, such as "1MiB", or a number of bytes`
	case "list":
		return `a list such as ["a", "b"]`
	case "number":
		return "a number"
	case "true|false":
		return "true or false"
	case "text", "secret":
		return "a text in quotes"
	}
	return "one of " + strings.ReplaceAll(s.Type, "|", ", ") + ", in quotes"
}

// text returns the setting's value in c in the spelling of the environment, with secrets
// masked.
func (s Setting) text(c *Config) string {
	switch v := s.field(c).Interface().(type) {
	case time.Duration:
		return formatDuration(v)
	case []string:
		return strings.Join(v, ",")
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// toml returns the setting's value in c in the spelling of the file, with secrets masked.
func (s Setting) toml(c *Config) string {
	switch v := s.field(c).Interface().(type) {
	case []string:
		quoted := make([]string, len(v))
		for i, e := range v {
			quoted[i] = quoteTOML(e)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case int, float64, bool:
		return fmt.Sprint(v)
	}
	return quoteTOML(s.text(c))
}

// quoteTOML returns s as a basic string of TOML.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
