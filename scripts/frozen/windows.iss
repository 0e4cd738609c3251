; Inno Setup's recipe: an installer for one user, without administrator's rights, of the folder that PyInstaller made.
;   iscc /DVersion=0.1.0 scripts\frozen\windows.iss
; Virtual camera and settings are not its business: the program names the steps for Unity Capture (occlufix-vcam setup).

#ifndef Version
  #error Name the version: iscc /DVersion=0.1.0
#endif

[Setup]
AppId={{6C0A2C7E-5F0B-4B5B-9E0E-0C1F5B7C9A51}
AppName=OccluFix Camera
AppVersion={#Version}
AppPublisher=The OccluFix Camera authors
AppPublisherURL=https://github.com/occlufix/occlufix-camera
DefaultDirName={autopf}\OccluFix Camera
DisableProgramGroupPage=yes
PrivilegesRequired=lowest
ArchitecturesAllowed=x64compatible
ArchitecturesInstallIn64BitMode=x64compatible
LicenseFile=..\..\LICENSE
OutputDir=..\..\dist
OutputBaseFilename=occlufix-camera-{#Version}-windows-x64
Compression=lzma2
SolidCompression=yes
ChangesEnvironment=yes
CloseApplications=yes
UninstallDisplayIcon={app}\OccluFix Camera.exe

[Tasks]
Name: path; Description: "Use the command occlufix-vcam in terminals"

[Files]
Source: "..\..\dist\occlufix-vcam\*"; DestDir: "{app}"; Flags: recursesubdirs ignoreversion

[Icons]
Name: "{autoprograms}\OccluFix Camera"; Filename: "{app}\OccluFix Camera.exe"

[Registry]
Root: HKCU; Subkey: "Environment"; ValueType: expandsz; ValueName: "Path"; ValueData: "{olddata};{app}"; \
  Tasks: path; Check: IsNotInPath

[UninstallRun]
Filename: "{app}\occlufix-vcam.exe"; Parameters: "stop"; Flags: runhidden; RunOnceId: "stop"
Filename: "{app}\occlufix-vcam.exe"; Parameters: "autostart off"; Flags: runhidden; RunOnceId: "autostart"

[Code]
function IsNotInPath: Boolean;
var
  Path: string;
begin
  if not RegQueryStringValue(HKCU, 'Environment', 'Path', Path) then
    Path := '';
  Result := Pos(';' + Lowercase(ExpandConstant('{app}')) + ';', ';' + Lowercase(Path) + ';') = 0;
end;
