import { Dialog } from "@kobalte/core/dialog";
import type { JSX } from "solid-js";
import { Icon } from "./Icon";
import { language } from "./language";

/** Modal is a dialog with a title and a button that closes it. */
export function Modal(props: {
  open: boolean;
  close: () => void;
  title: string;
  /** side is for a dialog of full height at the side. */
  side?: boolean;
  test?: string;
  children: JSX.Element;
}) {
  return (
    <Dialog open={props.open} onOpenChange={(open) => !open && props.close()}>
      <Dialog.Portal>
        <Dialog.Overlay class="overlay" />
        <div class={props.side ? "side" : "centre"}>
          <Dialog.Content class="card dialog" data-test={props.test}>
            <header>
              <Dialog.Title>{props.title}</Dialog.Title>
              <Dialog.CloseButton class="tool" aria-label={language() === "zh" ? "关闭" : "Close"}>
                <Icon name="close" />
              </Dialog.CloseButton>
            </header>
            {props.children}
          </Dialog.Content>
        </div>
      </Dialog.Portal>
    </Dialog>
  );
}
