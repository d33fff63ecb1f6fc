// How regions are told apart: Okabe and Ito's colours, and after eight regions another line.
// deig_core/regions/draw.py has the same table and says where it comes from.
export const PALETTE = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#3d7dd8", "#d55e00", "#cc79a7", "#b8b8b8"];
export const DASHES = [[], [5, 3], [1.5, 2], [7, 2, 1.5, 2]];

export const colourOf = (index) => PALETTE[index % PALETTE.length];
export const dashOf = (index) => DASHES[Math.floor(index / PALETTE.length) % DASHES.length];
