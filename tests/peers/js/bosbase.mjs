// The npm `bosbase` SDK lives the whole life of a backup.
import BosBase from "bosbase";
import { live } from "./life.mjs";
import { keepUp } from "./upkeep.mjs";

await keepUp(BosBase, await live(BosBase));
console.log("done");
