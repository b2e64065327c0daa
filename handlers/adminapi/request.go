package adminapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"teamtalk/core/im"
)

// The fields of a request are in its path, its query and its body. Their tags say where:
// path:"NAME", query:"NAME", body:"MEDIA TYPE" for the whole body as bytes, else json:"NAME".

// maxListed is the longest list in a query.
const maxListed = 1000

// decode reads the fields of the request q, which points to a struct.
func decode(w http.ResponseWriter, r *http.Request, q any, limit int64) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return im.Errorf(im.Invalid, "the query is malformed")
	}
	v := reflect.ValueOf(q).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if name := f.Tag.Get("path"); name != "" {
			if err := set(v.Field(i), name, r.PathValue(name)); err != nil {
				return err
			}
		}
		name := f.Tag.Get("query")
		if values, ok := query[name]; ok && name != "" {
			if len(values) != 1 {
				return im.Errorf(im.Invalid, "the query has %s %d times", name, len(values))
			}
			if err := set(v.Field(i), name, values[0]); err != nil {
				return err
			}
			delete(query, name)
		}
	}
	for name := range query {
		return im.Errorf(im.Invalid, "the call has no parameter %q in its query", cut(name))
	}
	return decodeBody(w, r, v, limit)
}

// decodeBody reads the fields that are in the body.
func decodeBody(w http.ResponseWriter, r *http.Request, v reflect.Value, limit int64) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return im.Errorf(im.Invalid, "the body is longer than %d bytes", limit)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		return im.Errorf(im.Invalid, "the body did not arrive in time")
	} else if err != nil {
		return im.Errorf(im.Invalid, "the body did not arrive")
	}
	media, raw := bodyOf(v.Type())
	if len(body) == 0 {
		return nil
	}
	if media == "" {
		return im.Errorf(im.Invalid, "the call has no body")
	}
	if sent, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil ||
		sent != media {
		return im.Errorf(im.Invalid, "the body must have the Content-Type %s", media)
	}
	if raw >= 0 {
		v.Field(raw).SetBytes(body)
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.DisallowUnknownFields()
	if err := d.Decode(v.Addr().Interface()); err != nil {
		return im.Errorf(im.Invalid, "the body is no JSON object with fields of this call: %s",
			cut(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return im.Errorf(im.Invalid, "the body has more than one JSON object")
	}
	return nil
}

// bodyOf returns the media type of the body of a request, empty without one, and the number of
// the field that gets the whole body; -1: none.
func bodyOf(t reflect.Type) (media string, raw int) {
	for i := range t.NumField() {
		f := t.Field(i)
		if m := f.Tag.Get("body"); m != "" {
			return m, i
		}
		if name := f.Tag.Get("json"); name != "" && name != "-" {
			media = "application/json"
		}
	}
	return media, -1
}

// set sets a field from a text of a path or of a query.
func set(f reflect.Value, name, text string) error {
	if !utf8.ValidString(text) {
		return im.Errorf(im.Invalid, "%s is not UTF-8", name)
	}
	switch p := f.Addr().Interface().(type) {
	case *string:
		*p = text
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return im.Errorf(im.Invalid, "%s=%q is neither true nor false", name, cut(text))
		}
		*p = b
	case *int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return im.Errorf(im.Invalid, "%s=%q is no number", name, cut(text))
		}
		*p = int(n)
	case *uint32:
		return setNumber(p, name, text)
	case *[]uint32:
		parts := strings.SplitN(text, ",", maxListed+1)
		if len(parts) > maxListed {
			return im.Errorf(im.Invalid, "%s lists more than %d numbers", name, maxListed)
		}
		*p = make([]uint32, len(parts))
		for i, part := range parts {
			if err := setNumber(&(*p)[i], name, part); err != nil {
				return err
			}
		}
	default:
		return im.Errorf(im.Internal, "no text sets a field of type %s", f.Type())
	}
	return nil
}

// setNumber parses an id or a count.
func setNumber(p *uint32, name, text string) error {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return im.Errorf(im.Invalid, "%s=%q is no number from 0 to 4294967295", name, cut(text))
	}
	*p = uint32(n)
	return nil
}

// cut shortens a text of the caller for an error.
func cut(text string) string {
	const longest = 100
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + "…"
}
