/**
 * Messages as they will be, shown before the server has stored them. Their ids are the page's own until then.
 *
 * @import { Message, Turn } from "#lib/shapes.js"
 */
import { uuid4 } from "#lib/uuid.js";

/**
 * @param {string} text
 * @param {string | null} parent
 * @param {string[]} versions earlier ones of the same message
 * @returns {Message}
 */
export function expectedQuestion(text, parent, versions) {
  const id = `question-${uuid4()}`;
  return { ...blank(), id, parent, role: "user", text, siblings: [...versions, id] };
}

/**
 * @param {Turn} turn that is beginning
 * @param {string | null} question
 * @param {string[]} versions earlier answers to it
 * @returns {Message}
 */
export function expectedAnswer(turn, question, versions) {
  const id = `answer-${turn.id}`;
  return { ...blank(), id, parent: question, role: "assistant", siblings: [...versions, id], turn };
}

function blank() {
  return { text: "", thinking: "", created_at: new Date().toISOString(), turn: null, mark: null };
}
