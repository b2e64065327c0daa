package jsonio

// Help documents the commands and the events, for the help text of the chat command.
const Help = `
With --json, each line of standard input is a command:
  {"to":"bob","text":"hi","ref":"any"}        send a text; the events repeat ref
  a line that does not start with {           send the line to PEER
  {"cmd":"history","peer":"bob","n":20}       read old messages; older ones with "before":ID
  {"cmd":"read","peer":"bob"}                 mark as read; no other command does
  {"cmd":"contacts"}  {"cmd":"unread"}  {"cmd":"quit"}
  {"cmd":"list"}  {"cmd":"departs"}           list conversations; departments with their users
  {"cmd":"status","users":["bob"]}            ask for the presence of users; of all without users
  {"cmd":"voice","to":"bob","file":"a.amr","seconds":3}
  {"cmd":"typing","peer":"bob"}               tell that the user types; "off":true: stopped
  {"cmd":"sign","text":"at lunch"}  {"cmd":"avatar","text":"http://…"}
  {"cmd":"remove_session","peer":"bob"}       remove from the list, until the next message
  {"cmd":"push_shield","on":true}             no pushes at night; without on: ask
  {"cmd":"kick_pc"}                           with --mobile: end the session of the user's pc client
  {"cmd":"send_file","to":"bob","file":"a.pdf"}   send while bob is online; else, or with
                                              "offline":true, leave the file at the server
  {"cmd":"files"}                             list waiting files and running transfers
  {"cmd":"get_file","n":1}                    fetch into the folder of --downloads;
                                              also refuse_file, cancel_file
  {"cmd":"groups"}                            list the user's groups
  {"cmd":"create_group","name":"dev","users":["bob"]}
  {"cmd":"add_members","peer":"#dev","users":["carol"]}      also remove_members
  {"cmd":"leave_group","peer":"#dev"}  {"cmd":"mute","peer":"#dev"}  {"cmd":"unmute","peer":"#dev"}
A peer or to may be "#dev" for a group. Instead of either, "group":7 is the group's number.
Each line of standard output is an event; "event" is its kind:
  registered {user,id}                        with --register: the server has added the user
  ready {user,server,unread}                  logged in; earlier commands are executed now
  message {peer,from,id,time,text,missed}     a received message, once; from USER: sent on another
                                              device; in a group with group; kind audio: with
                                              seconds and bytes; kind other: no readable text
  sending ack failed {n,to,ref,id,error}      n counts the sent messages, from 1
  history {peer,messages}  contacts {contacts}  unread {unread}
  list {list}  departs {departs}  groups {groups}  status {contacts}
  done {cmd,ref,peer,group,on}                another command succeeded; create_group: the new group
  presence {user,status}   read {peer,id}     read: on another device
  group {peer,group,by,added,removed,members,left}   a new or changed group; left: without USER
  session_removed {peer}                      on another device
  sign {user,text}  avatar {user,text}  typing {user,status}  pc {status}  command {from,to,text}
  disconnected {error}  retrying {attempt,error,seconds}  reconnected {server}
  file {file}  files {files}                  a file {n,name,size,from,to,online,state,moved,path,
                                              task,error} with a state: coming, offered (the
                                              sender waits), waiting (at the server), sending,
                                              fetching, done, cancelled, refused, failed, paused
                                              (until the next login)
  skipped {peer,below}                        too many messages were missed: see history
  kicked {reason}  refused {error}            the server ended the session
  error {error,line}                          a command failed
  end {unacked}                               the last line
Exit codes: 0 success; 1 no connection, or login or registration refused; 2 wrong usage; 3 a message
was not acknowledged, or a command failed; 4 the server ended the session.
`
