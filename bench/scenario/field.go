package scenario

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"teamtalk/core/config"
	"teamtalk/core/tomlfile"
)

// Field describes a setting of a scenario.
type Field struct {
	Key     string   // name in a file: "group_ids"
	Doc     string   // description, for help texts
	Default string   // in the form that Set accepts
	Kinds   []string // kinds of scenario that use it; empty: all

	index    int
	min, max string
	oneof    []string
}

// Flag returns the name of the setting's flag, without the dashes.
func (f Field) Flag() string { return strings.ReplaceAll(f.Key, "_", "-") }

// New returns a scenario with the defaults of its kind.
func New(kind string) Scenario {
	var s Scenario
	for _, f := range Fields(kind) {
		if f.Default != "" {
			if err := f.Set(&s, f.Default); err != nil {
				// an error in the definition, which a test finds
				panic(fmt.Sprintf("bench: default of %s: %v", f.Key, err))
			}
		}
	}
	s.Kind = kind
	switch kind { // defaults that differ for this kind
	case KindSoak:
		s.Duration = Duration(time.Hour)
	case KindFile:
		s.Pairs, s.FileSize = 20, 1<<20
	}
	return s
}

// Set parses the setting from the text of a flag. After an error s is unchanged.
func (f Field) Set(s *Scenario, text string) error {
	v := reflect.ValueOf(s).Elem().Field(f.index)
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		*p = splitList(text)
	case *[]int:
		var list []int
		for _, e := range splitList(text) {
			n, err := strconv.Atoi(e)
			if err != nil {
				return errors.New("want whole numbers, with commas between")
			}
			list = append(list, n)
		}
		*p = list
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("want a whole number")
		}
		*p = n
	case *float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(n) {
			return errors.New("want a number")
		}
		*p = n
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("want true or false")
		}
		*p = b
	case *config.Size:
		n, err := config.ParseSize(text)
		if err != nil {
			return err
		}
		*p = n
	case *Duration:
		return p.UnmarshalText([]byte(text))
	default:
		panic(fmt.Sprintf("bench: setting %s has type %T", f.Key, p))
	}
	return nil
}

// Get returns the setting's value in the form that Set accepts.
func (f Field) Get(s *Scenario) string {
	switch v := reflect.ValueOf(s).Elem().Field(f.index).Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case []int:
		return strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", ","), "[]")
	default:
		return fmt.Sprint(v)
	}
}

// IsBool reports whether the setting is true or false.
func (f Field) IsBool() bool { return f.kind() == reflect.Bool }

func (f Field) kind() reflect.Kind { return reflect.TypeFor[Scenario]().Field(f.index).Type.Kind() }

// Type returns the type of the value in a word.
func (f Field) Type() string {
	switch reflect.Zero(reflect.TypeFor[Scenario]().Field(f.index).Type).Interface().(type) {
	case Duration:
		return "duration"
	case config.Size:
		return "size"
	case []string, []int:
		return "list"
	case int, float64:
		return "number"
	case bool:
		return "bool"
	}
	return "text"
}

// check returns an error when the value in s is outside its bounds.
func (f Field) check(s *Scenario) error {
	value := f.Get(s)
	if len(f.oneof) > 0 && !slices.Contains(f.oneof, value) {
		return fmt.Errorf("want one of %s, got %q", strings.Join(f.oneof, ", "), value)
	}
	if f.min == "" && f.max == "" {
		return nil
	}
	got := f.number(value)
	if f.min != "" && got < f.number(f.min) {
		return fmt.Errorf("want %s or more, got %s", f.min, value)
	}
	if f.max != "" && got > f.number(f.max) {
		return fmt.Errorf("want %s or less, got %s", f.max, value)
	}
	return nil
}

// number converts the text of a number, a size or a duration to a number that can be
// compared.
func (f Field) number(text string) float64 {
	switch f.Type() {
	case "duration":
		// valid, because it was written by a Duration or stands in the definition
		d, _ := time.ParseDuration(text)
		return float64(d)
	case "size":
		n, _ := config.ParseSize(text)
		return float64(n)
	}
	n, _ := strconv.ParseFloat(text, 64)
	return n
}

func splitList(text string) []string {
	var list []string
	for e := range strings.SplitSeq(text, ",") {
		if e = strings.TrimSpace(e); e != "" {
			list = append(list, e)
		}
	}
	return list
}

// Parse parses the content of a TOML file. The error names each invalid setting.
func Parse(data []byte) (Scenario, error) {
	var tree map[string]any
	data, err := tomlfile.PlainText(data)
	if err != nil {
		return Scenario{}, err
	}
	if err := toml.Unmarshal(data, &tree); err != nil {
		var bad *toml.DecodeError
		if errors.As(err, &bad) {
			row, col := bad.Position()
			return Scenario{}, fmt.Errorf("line %d, column %d: %s", row, col,
				strings.TrimPrefix(bad.Error(), "toml: "))
		}
		return Scenario{}, err
	}
	kind, _ := tree["kind"].(string)
	if !slices.Contains(Kinds(), kind) {
		return Scenario{}, fmt.Errorf("kind: want one of %s", strings.Join(Kinds(), ", "))
	}
	s := New(kind)
	var problems []error
	known := map[string]bool{}
	for _, f := range Fields(kind) {
		known[f.Key] = true
		value, ok := tree[f.Key]
		if !ok {
			continue
		}
		text, err := f.fromTOML(value)
		if err == nil {
			err = f.Set(&s, text)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", f.Key, err))
		}
	}
	for key := range tree {
		if !known[key] {
			problems = append(problems, fmt.Errorf("%s: no such setting of %s", key, kind))
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if len(problems) == 0 {
		return s, s.Validate()
	}
	return s, errors.Join(problems...)
}

// fromTOML converts a value of a file to the form that Set accepts.
func (f Field) fromTOML(value any) (string, error) {
	number := f.Type() == "number"
	switch v := value.(type) {
	case string:
		if !number && f.Type() != "list" && f.Type() != "bool" {
			return v, nil
		}
	case int64:
		if number || f.Type() == "size" {
			return strconv.FormatInt(v, 10), nil
		}
	case float64:
		if number && f.kind() == reflect.Float64 {
			return strconv.FormatFloat(v, 'g', -1, 64), nil
		}
	case bool:
		if f.Type() == "bool" {
			return strconv.FormatBool(v), nil
		}
	case []any:
		if f.Type() == "list" {
			words := make([]string, len(v))
			for i, e := range v {
				words[i] = fmt.Sprint(e)
			}
			return strings.Join(words, ","), nil
		}
	}
	switch f.Type() {
	case "duration":
		return "", fmt.Errorf(`want a duration in quotes, such as "10s", not %v: %s`, value,
			config.DurationForm)
	case "list":
		return "", errors.New(`want a list such as ["a", "b"]`)
	}
	return "", fmt.Errorf("want a %s", f.Type())
}
