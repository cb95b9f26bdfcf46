// The npm `pocketbase` SDK lives the whole life of a backup.
import PocketBase from "pocketbase";
import { live } from "./life.mjs";
import { keepUp } from "./upkeep.mjs";

await keepUp(PocketBase, await live(PocketBase));
console.log("done");
