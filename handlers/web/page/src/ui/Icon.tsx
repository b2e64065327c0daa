const paths = {
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  down: "M6 9l6 6 6-6",
  up: "M6 15l6-6 6 6",
  menu: "M12 5.5v.01M12 12v.01M12 18.5v.01",
  search: "M10.5 17a6.5 6.5 0 100-13 6.5 6.5 0 000 13zM15.5 15.5L20 20",
  plus: "M12 5v14M5 12h14",
  send: "M5 12L4 4l17 8-17 8 1-8zm0 0h8",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 5M15.5 9.5v.01",
  check: "M5 12.5l4.5 4.5L19 7.5",
  clock: "M12 20a8 8 0 100-16 8 8 0 000 16zM12 8v4l2.5 2",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
  mic: "M12 15a3.5 3.5 0 003.5-3.5v-5a3.5 3.5 0 00-7 0v5A3.5 3.5 0 0012 15z" +
    "M5.5 11.5a6.5 6.5 0 0013 0M12 18v3",
  attach: "M19 11l-7.5 7.5a4.6 4.6 0 01-6.5-6.5L13 4a3 3 0 014.3 4.3L9.5 16" +
    "a1.5 1.5 0 01-2-2.2L14 7.5",
  warning: "M12 8v5M12 16.5v.01M12 3l9.5 17h-19L12 3z",
  play: "M8 5l11 7-11 7z",
  stop: "M7 7h10v10H7z",
  sound: "M4 10v4M8 7v10M12 4v16M16 8v8M20 10.5v3",
  info: "M12 20a8 8 0 100-16 8 8 0 000 16zM12 11v5M12 8v.01",
};

/** Icon is a drawing of 20 pixels. It has no name: the button around it has one. */
export function Icon(props: { name: keyof typeof paths }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={paths[props.name]} stroke-width={props.name === "menu" ? 3 : 1.8} />
    </svg>
  );
}
